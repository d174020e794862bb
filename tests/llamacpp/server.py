"""llama.cpp's own server with a tiny model that is made here. Prints its address and serves until it is ended.

The model knows by heart what it says: a greeting, or where tools are offered, that it calls one. What it calls is written by
the grammar that the server makes of the tools.
"""

import os
import signal
import sys

import gguf
import numpy
import xllamacpp

EMBEDDING, HEADS, FEED_FORWARD = 32, 2, 64
# What the model was made for, and what the server gives it.
TRAINED_CONTEXT, CONTEXT = 4096, 2048

# Every byte is a token, so that a grammar can write whatever it wants. The words after them are what the model says.
TOKENS = [("<unk>", gguf.TokenType.UNKNOWN), ("<s>", gguf.TokenType.CONTROL), ("</s>", gguf.TokenType.CONTROL)]
TOKENS += [(f"<0x{byte:02X}>", gguf.TokenType.BYTE) for byte in range(256)]
WORDS = ["<speak>", "Hello", " from", " llama.cpp", "<act>", "<tool_call>", "</tool_call>"]
TOKENS += [(word, gguf.TokenType.USER_DEFINED) for word in WORDS]
ID = {text: at for at, (text, _) in enumerate(TOKENS)}

# What follows on what; after everything else the end of the answer is most likely, then that of a call, where a grammar lets it.
NEXT = [("<speak>", "Hello"), ("Hello", " from"), (" from", " llama.cpp"), ("<act>", "<tool_call>"), ("<tool_call>", "<0x0A>")]

TEMPLATE = """{%- if tools %}<tools>{{ tools | tojson }}</tools>
{% endif %}
{%- for message in messages %}
{%- if message.role == 'assistant' and message.tool_calls %}assistant: {{ message.content or '' }}
{%- for call in message.tool_calls %}<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>{% endfor %}</s>
{% elif message.role == 'tool' %}<tool_response>
{{ message.content }}
</tool_response>
{% else %}{{ message.role }}: {{ message.content }}</s>
{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}assistant: {% if tools %}<act>{% else %}<speak>{% endif %}{% endif %}"""


def write_model(path):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(TRAINED_CONTEXT)
    writer.add_embedding_length(EMBEDDING)
    writer.add_block_count(1)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(EMBEDDING // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([text for text, _ in TOKENS])
    writer.add_token_scores([0.0] * len(TOKENS))
    writer.add_token_types([kind for _, kind in TOKENS])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(TEMPLATE)

    # The layer adds next to nothing, so that a token alone decides what follows it: its first numbers say which rule it has.
    random = numpy.random.default_rng(1)

    def small(*shape):
        return (random.standard_normal(shape) * 0.01).astype(numpy.float32)

    tokens, output = small(len(TOKENS), EMBEDDING), small(len(TOKENS), EMBEDDING)
    tokens[:, 0] = 1.0
    output[ID["</s>"], 0] = 2.0
    output[ID["</tool_call>"], 0] = 1.0
    for rule, (before, after) in enumerate(NEXT, 1):
        tokens[ID[before], rule] = 5.0
        output[ID[after], rule] = 5.0
    writer.add_tensor("token_embd.weight", tokens)
    writer.add_tensor("output.weight", output)
    writer.add_tensor("output_norm.weight", numpy.ones(EMBEDDING, numpy.float32))
    for norm in ("attn_norm", "ffn_norm"):
        writer.add_tensor(f"blk.0.{norm}.weight", numpy.ones(EMBEDDING, numpy.float32))
    for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
        writer.add_tensor(f"blk.0.{part}.weight", small(EMBEDDING, EMBEDDING))
    writer.add_tensor("blk.0.ffn_gate.weight", small(FEED_FORWARD, EMBEDDING))
    writer.add_tensor("blk.0.ffn_up.weight", small(FEED_FORWARD, EMBEDDING))
    writer.add_tensor("blk.0.ffn_down.weight", small(EMBEDDING, FEED_FORWARD))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main(directory):
    path = os.path.join(directory, "tiny.gguf")
    write_model(path)
    params = xllamacpp.CommonParams()
    params.model.path = path
    params.n_ctx = CONTEXT
    params.n_parallel = 1
    params.cpuparams.n_threads = 1
    params.warmup = False
    params.use_jinja = True
    params.n_gpu_layers = 0
    # The most likely token, always.
    params.sampling.temp = 0
    params.port = 0
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    signal.pause()


main(sys.argv[1])
