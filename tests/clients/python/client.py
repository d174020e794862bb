"""A worker on the official Python SDK. Plays the story of tests/it/clients against an engine and prints what it saw as
one line of JSON.

    python client.py <engine url> <name> <size of a large value, in bytes> <url of a web server with a list of models>
"""

import asyncio
import json
import logging
import sys
import warnings

from iii import InitOptions, InvocationError, TriggerAction, register_worker
from iii.helpers import create_channel_async
from iii.trigger import TriggerConfig, TriggerHandler
from iii_helpers.http import HttpInvocationConfig

# `register_trigger` is what today's engines know.
warnings.simplefilter("ignore", DeprecationWarning)
logging.basicConfig(stream=sys.stderr)

url, name, large_bytes, models = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
browser = f"console-{name}"
session = f"console-chat-{name}"
worker = register_worker(url, InitOptions(worker_name=name, worker_description="A test client"))


async def call(function_id, payload, **more):
    return await worker.trigger_async({"function_id": function_id, "payload": payload, **more})


async def failure(calling):
    try:
        return {"unexpected": await calling}
    except InvocationError as error:
        return {"code": error.code, "message": error.message}


class Inbox:
    """Values that come from the thread of the SDK, taken one by one."""

    def __init__(self):
        self.loop = asyncio.get_running_loop()
        self.values = asyncio.Queue()

    def put(self, value):
        self.loop.call_soon_threadsafe(self.values.put_nowait, value)

    async def take(self):
        return await self.values.get()

    async def until(self, wanted):
        taken = []
        while not taken or not wanted(taken[-1]):
            taken.append(await self.take())
        return taken


class Timer(TriggerHandler):
    """A trigger type that never fires."""

    def __init__(self):
        self.bound, self.unbound = Inbox(), Inbox()

    async def register_trigger(self, config: TriggerConfig):
        self.bound.put(config)

    async def unregister_trigger(self, config: TriggerConfig):
        self.unbound.put(config.id)


def is_parked(event):
    return event["type"] == "turn_state_changed" and event["new_value"]["state"] == "function_awaiting_approval"


def is_last(event):
    return event["type"] == "agent_end"


def types(events):
    found = []
    for event in events:
        if not found or found[-1] != event["type"]:
            found.append(event["type"])
    return found


def said(events):
    deltas = (event.get("llm_event") or {} for event in events)
    return "".join(delta["delta"] for delta in deltas if delta.get("type") == "text_delta")


async def main():
    seen = {}

    # What is there.
    listed = await call("engine::functions::list", {"prefix": "harness::trigger"})
    seen["listed"] = listed["functions"]
    info = await call("engine::functions::info", {"function_id": "harness::trigger"})
    seen["takes"] = sorted(info["request_schema"]["properties"])

    # Its own functions, as a page of the console and as a tool.
    pushes, items, weather, notes = Inbox(), Inbox(), Inbox(), Inbox()

    async def on_push(push):
        if push["session_id"] == session:
            pushes.put(push["event"])

    async def on_item(item):
        if item["groupId"] == session:
            items.put(item["event"]["data"])

    async def on_weather(request):
        weather.put(request)
        return {"sky": "clear", "city": request["city"]}

    async def on_note(note, metadata=None):
        notes.put([note, metadata])
        return {"length": len(note.get("text", ""))}

    async def on_fails(_):
        raise RuntimeError("on purpose")

    worker.register_function(f"ui::session::event::{browser}", on_push)
    worker.register_function(f"demo::stream::{name}", on_item)
    worker.register_function(
        f"demo::weather::{name}",
        on_weather,
        description="The weather of a city",
        request_format={"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        metadata={"made_by": name},
    )
    worker.register_function(f"demo::note::{name}", on_note)
    fails = worker.register_function(f"demo::fails::{name}", on_fails)
    worker.register_trigger(
        {
            "type": "stream",
            "function_id": f"demo::stream::{name}",
            "config": {"stream_name": "agent::events", "group_id": session},
        }
    )
    seen["own"] = await call("engine::functions::info", {"function_id": f"demo::weather::{name}"})
    workers = await call("engine::workers::list", {"search": name})
    members = ("name", "runtime", "status", "description", "function_count")
    seen["workers"] = [{member: row[member] for member in members} for row in workers["workers"]]

    # A turn in which the agent calls it, once a person has approved.
    seen["subscribed"] = await call("ui::subscribe", {"browser_id": browser, "session_id": session})
    seen["started"] = await call(
        "harness::trigger",
        {
            "session_id": session,
            "message_id": "m1",
            "payload": {
                "session_id": session,
                "message_id": "m1",
                "provider": "openai",
                "model": "gpt-5",
                "messages": [
                    {"role": "user", "content": [{"type": "text", "text": name}], "timestamp": 1780000000000}
                ],
            },
        },
    )
    before = await pushes.until(is_parked)
    parked = before[-1]["new_value"]["awaiting_approval"]
    seen["asks"] = [{"function_id": row["function_id"], "args": row["args"]} for row in parked]
    seen["approved"] = await call(
        "approval::resolve",
        {"session_id": session, "function_call_id": parked[0]["function_call_id"], "decision": "allow"},
    )
    seen["called_with"] = await weather.take()
    pushed = before + await pushes.until(is_last)
    streamed = await items.until(is_last)
    seen["pushed"] = types(pushed)
    seen["streamed"] = types(streamed)
    seen["said"] = [said(pushed), said(streamed)]
    ends = [event for event in pushed if event["type"] == "function_execution_end"]
    seen["result"] = ends[0]["result"]["details"]
    tree = await call("session-tree::messages", {"session_id": session})
    seen["transcript"] = [row["message"]["role"] for row in tree["messages"]]
    seen["unsubscribed"] = await call("ui::unsubscribe", {"browser_id": browser, "session_id": session})

    # Calls that nobody waits for, a job, and what comes beside the payload.
    note = f"demo::note::{name}"
    await call(note, {"text": "void"}, action=TriggerAction.Void(), metadata={"by": "void"})
    seen["void"] = await notes.take()
    job = await call(note, {"text": "job"}, action=TriggerAction.Enqueue(queue="default"))
    seen["receipt"] = list(job)
    seen["job"] = (await notes.take())[0]
    large = "x" * large_bytes
    seen["large"] = await call(note, {"text": large})
    seen["large_came"] = (await notes.take())[0]["text"] == large

    # A function that is a URL, and a trigger type of its own.
    worker.register_function(f"demo::models::{name}", HttpInvocationConfig(url=models, method="GET"))
    listing = await call(f"demo::models::{name}", {})
    seen["models"] = [row["id"] for row in listing["data"]]
    timer = Timer()
    worker.register_trigger_type({"id": f"demo::timer::{name}", "description": "Fires now and then"}, timer)
    binding = worker.register_trigger(
        {"type": f"demo::timer::{name}", "function_id": note, "config": {"every": 5}, "metadata": {"by": "timer"}}
    )
    bound = await timer.bound.take()
    seen["bound"] = {"function_id": bound.function_id, "config": bound.config, "metadata": bound.metadata}
    info = await call("engine::triggers::info", {"id": f"demo::timer::{name}"})
    seen["offered"] = {member: info[member] for member in ("worker_name", "description", "instance_count")}
    binding.unregister()
    seen["unbound"] = await timer.unbound.take() == bound.id

    # Errors.
    seen["errors"] = {
        "own": await failure(call(f"demo::fails::{name}", {})),
        "unknown": await failure(call("no::such", {})),
        "engine": await failure(call("state::set", {"scope": "x"})),
        "program": await failure(call("harness::trigger", {})),
        "queue": await failure(call("no::such", {}, action=TriggerAction.Enqueue(queue="nowhere"))),
    }
    fails.unregister()
    seen["errors"]["unregistered"] = await failure(call(f"demo::fails::{name}", {}))

    # A channel.
    channel = await create_channel_async(worker)
    frames = []
    channel.reader.on_message(frames.append)

    async def read():
        async for chunk in channel.reader:
            frames.append(list(chunk))

    reading = asyncio.create_task(read())
    await channel.writer.send_message_async("first")
    await channel.writer.write(bytes([1, 2, 255]))
    await channel.writer.send_message_async("last")
    await channel.writer.close_async()
    await reading
    seen["channel"] = frames
    return seen


try:
    print(json.dumps(asyncio.run(main())))
finally:
    worker.shutdown()
