// A worker on the official Node SDK. Plays the story of tests/it/clients against an engine and prints what it saw as one
// line of JSON.
//
//   node client.mjs <engine url> <name> <size of a large value, in bytes> <url of a web server with a list of models>

import { registerWorker, TriggerAction } from 'iii-sdk'
import { createChannel } from 'iii-sdk/helpers'

// The last line of stdout is for the test.
console.log = console.debug = console.info = console.error

const [url, name, largeBytes, models] = process.argv.slice(2)
const browser = `console-${name}`
const session = `console-chat-${name}`
const worker = registerWorker(url, { workerName: name, workerDescription: 'A test client' })
const call = (function_id, payload, more = {}) => worker.trigger({ function_id, payload, ...more })
const failure = (promise) =>
  promise.then(
    (value) => ({ unexpected: value }),
    // The class puts the code in front of the message.
    ({ code, message }) => ({ code, message: message.slice(code.length + 2) }),
  )

/** Values that come from elsewhere, taken one by one. */
class Inbox {
  values = []
  waiting = []

  put(value) {
    const next = this.waiting.shift()
    next ? next(value) : this.values.push(value)
    return null
  }

  take() {
    return this.values.length > 0
      ? Promise.resolve(this.values.shift())
      : new Promise((resolve) => this.waiting.push(resolve))
  }

  async until(wanted) {
    const taken = []
    do taken.push(await this.take())
    while (!wanted(taken.at(-1)))
    return taken
  }
}

const isParked = (event) =>
  event.type === 'turn_state_changed' && event.new_value.state === 'function_awaiting_approval'
const isLast = (event) => event.type === 'agent_end'
const types = (events) => events.map(({ type }) => type).filter((type, at, all) => type !== all[at - 1])
const said = (events) =>
  events.map(({ llm_event }) => (llm_event?.type === 'text_delta' ? llm_event.delta : '')).join('')

async function main() {
  const seen = {}

  // What is there.
  const { functions } = await call('engine::functions::list', { prefix: 'harness::trigger' })
  seen.listed = functions
  const info = await call('engine::functions::info', { function_id: 'harness::trigger' })
  seen.takes = Object.keys(info.request_schema.properties).sort()

  // Its own functions, as a page of the console and as a tool.
  const [pushes, items, weather, notes] = [new Inbox(), new Inbox(), new Inbox(), new Inbox()]
  worker.registerFunction(`ui::session::event::${browser}`, async ({ session_id, event }) =>
    session_id === session ? pushes.put(event) : null,
  )
  worker.registerFunction(`demo::stream::${name}`, async ({ groupId, event }) =>
    groupId === session ? items.put(event.data) : null,
  )
  worker.registerFunction(
    `demo::weather::${name}`,
    async (input) => {
      weather.put(input)
      return { sky: 'clear', city: input.city }
    },
    {
      description: 'The weather of a city',
      request_format: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
      metadata: { made_by: name },
    },
  )
  worker.registerFunction(`demo::note::${name}`, async (input, metadata) => {
    notes.put([input, metadata ?? null])
    return { length: input.text?.length ?? 0 }
  })
  const fails = worker.registerFunction(`demo::fails::${name}`, async () => {
    throw new Error('on purpose')
  })
  worker.registerTrigger({
    type: 'stream',
    function_id: `demo::stream::${name}`,
    config: { stream_name: 'agent::events', group_id: session },
  })
  seen.own = await call('engine::functions::info', { function_id: `demo::weather::${name}` })
  const { workers } = await call('engine::workers::list', { search: name })
  seen.workers = workers.map(({ name, runtime, status, description, function_count }) => ({
    name,
    runtime,
    status,
    description,
    function_count,
  }))

  // A turn in which the agent calls it, once a person has approved.
  seen.subscribed = await call('ui::subscribe', { browser_id: browser, session_id: session })
  seen.started = await call('harness::trigger', {
    session_id: session,
    message_id: 'm1',
    payload: {
      session_id: session,
      message_id: 'm1',
      provider: 'openai',
      model: 'gpt-5',
      messages: [{ role: 'user', content: [{ type: 'text', text: name }], timestamp: 1780000000000 }],
    },
  })
  const before = await pushes.until(isParked)
  seen.asks = before.at(-1).new_value.awaiting_approval.map(({ function_id, args }) => ({ function_id, args }))
  seen.approved = await call('approval::resolve', {
    session_id: session,
    function_call_id: before.at(-1).new_value.awaiting_approval[0].function_call_id,
    decision: 'allow',
  })
  seen.called_with = await weather.take()
  const pushed = [...before, ...(await pushes.until(isLast))]
  const streamed = await items.until(isLast)
  seen.pushed = types(pushed)
  seen.streamed = types(streamed)
  seen.said = [said(pushed), said(streamed)]
  seen.result = pushed.find(({ type }) => type === 'function_execution_end').result.details
  const { messages } = await call('session-tree::messages', { session_id: session })
  seen.transcript = messages.map(({ message }) => message.role)
  seen.unsubscribed = await call('ui::unsubscribe', { browser_id: browser, session_id: session })

  // Calls that nobody waits for, a job, and what comes beside the payload.
  await call(`demo::note::${name}`, { text: 'void' }, { action: TriggerAction.Void(), metadata: { by: 'void' } })
  seen.void = await notes.take()
  const job = await call(`demo::note::${name}`, { text: 'job' }, { action: TriggerAction.Enqueue({ queue: 'default' }) })
  seen.receipt = Object.keys(job)
  seen.job = (await notes.take())[0]
  const large = 'x'.repeat(Number(largeBytes))
  seen.large = await call(`demo::note::${name}`, { text: large })
  seen.large_came = (await notes.take())[0].text === large

  // A function that is a URL, and a trigger type of its own.
  worker.registerFunction(`demo::models::${name}`, { url: models, method: 'GET' })
  seen.models = (await call(`demo::models::${name}`, {})).data.map(({ id }) => id)
  const [bound, unbound] = [new Inbox(), new Inbox()]
  worker.registerTriggerType(
    { id: `demo::timer::${name}`, description: 'Fires now and then' },
    { registerTrigger: async (binding) => bound.put(binding), unregisterTrigger: async ({ id }) => unbound.put(id) },
  )
  const binding = worker.registerTrigger({
    type: `demo::timer::${name}`,
    function_id: `demo::note::${name}`,
    config: { every: 5 },
    metadata: { by: 'timer' },
  })
  const { id, function_id, config, metadata } = await bound.take()
  seen.bound = { function_id, config, metadata }
  const type = await call('engine::triggers::info', { id: `demo::timer::${name}` })
  seen.offered = { worker_name: type.worker_name, description: type.description, instance_count: type.instance_count }
  binding.unregister()
  seen.unbound = (await unbound.take()) === id

  // Errors.
  seen.errors = {
    own: await failure(call(`demo::fails::${name}`, {})),
    unknown: await failure(call('no::such', {})),
    engine: await failure(call('state::set', { scope: 'x' })),
    program: await failure(call('harness::trigger', {})),
    queue: await failure(call('no::such', {}, { action: TriggerAction.Enqueue({ queue: 'nowhere' }) })),
  }
  fails.unregister()
  seen.errors.unregistered = await failure(call(`demo::fails::${name}`, {}))

  // A channel.
  const { writer, reader } = await createChannel(worker)
  const frames = []
  reader.onMessage((text) => frames.push(text))
  reader.stream.on('data', (bytes) => frames.push([...bytes]))
  const ended = new Promise((resolve, reject) => reader.stream.on('end', resolve).on('error', reject))
  writer.sendMessage('first')
  writer.stream.write(Buffer.from([1, 2, 255]))
  writer.sendMessage('last')
  writer.close()
  await ended
  seen.channel = frames
  return seen
}

main()
  .then(async (seen) => {
    process.stdout.write(`${JSON.stringify(seen)}\n`)
    await worker.shutdown()
  })
  .catch((error) => {
    console.error(error)
    process.exit(1)
  })
