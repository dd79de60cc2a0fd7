"""Make a tiny GGUF model out of the folder that tests/vllm/make_tiny_model.py wrote: its tokenizer, and random weights.

python tests/servers/make_gguf.py FOLDER OUT.gguf       (needs the package gguf, and numpy)
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import gguf
import numpy as np

WIDTH, LAYERS, HEADS, KV_HEADS, INNER, CONTEXT = 128, 2, 4, 2, 256, 32768


def make(folder: Path, out: Path) -> None:
    """Write `out`: two layers of Llama's shape with the folder's vocabulary; equal bytes each time."""
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    names: dict[str, int] = dict(tokenizer["model"]["vocab"])
    special = {entry["content"]: entry["id"] for entry in tokenizer["added_tokens"] if entry["special"]}
    names |= special
    tokens = sorted(names, key=lambda name: names[name])
    kinds = [gguf.TokenType.CONTROL if token in special else gguf.TokenType.NORMAL for token in tokens]
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in tokenizer["model"]["merges"]]

    writer = gguf.GGUFWriter(out, "llama")
    writer.add_name("tiny")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_vocab_size(len(tokens))
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(False)

    random = np.random.default_rng(0)

    def weights(name: str, *shape: int) -> None:
        writer.add_tensor(name, random.normal(0, 0.02, shape).astype(np.float32))

    def ones(name: str) -> None:
        writer.add_tensor(name, np.ones(WIDTH, np.float32))

    weights("token_embd.weight", len(tokens), WIDTH)
    # answers are plain words: a byte that is no text by itself, or an end token, is none that this server would send
    plain = np.array([kind == gguf.TokenType.NORMAL and token.lstrip("Ġ").isascii() and token.lstrip("Ġ").isalpha()
                      for token, kind in zip(tokens, kinds, strict=True)])  # fmt: skip
    out_rows = random.normal(0, 0.02, (len(tokens), WIDTH)).astype(np.float32) * plain[:, None]
    writer.add_tensor("output.weight", out_rows)
    ones("output_norm.weight")
    for layer in range(LAYERS):
        ones(f"blk.{layer}.attn_norm.weight")
        ones(f"blk.{layer}.ffn_norm.weight")
        weights(f"blk.{layer}.attn_q.weight", WIDTH, WIDTH)
        weights(f"blk.{layer}.attn_k.weight", WIDTH * KV_HEADS // HEADS, WIDTH)
        weights(f"blk.{layer}.attn_v.weight", WIDTH * KV_HEADS // HEADS, WIDTH)
        weights(f"blk.{layer}.attn_output.weight", WIDTH, WIDTH)
        weights(f"blk.{layer}.ffn_gate.weight", INNER, WIDTH)
        weights(f"blk.{layer}.ffn_up.weight", INNER, WIDTH)
        weights(f"blk.{layer}.ffn_down.weight", WIDTH, INNER)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    make(Path(sys.argv[1]), Path(sys.argv[2]))
