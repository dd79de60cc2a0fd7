"""Make the folder of a tiny Qwen3-shaped model: a real tokenizer trained here, a config, and no weights.

    python tests/vllm/make_tiny_model.py DIR        then: vllm serve DIR --load-format dummy

Needs transformers and tokenizers, and no network.
"""

from __future__ import annotations

import json
import sys
import sysconfig
from pathlib import Path

VOCAB = 4096
# vLLM 0.32's CPU build dies of SIGILL in its AMX attention (bfloat16) on a guest that has AMX; float32 has no such kernel
DTYPE = "float32" if "amx_tile" in Path("/proc/cpuinfo").read_text() else "bfloat16"
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CONFIG = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "head_dim": 64,
    "hidden_act": "silu",
    "hidden_size": 128,
    "initializer_range": 0.02,
    "intermediate_size": 256,
    "max_position_embeddings": 32768,
    "max_window_layers": 2,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "use_cache": True,
}


def make(folder: Path) -> int:
    """Write the model's folder; returns its vocabulary's size."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    # Python's own library is text that is there wherever this runs
    texts = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))[:200]
    tokenizer.train([str(path) for path in texts], trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=SPECIAL[2], pad_token=SPECIAL[0], model_max_length=32768
    )
    fast.chat_template = CHAT
    fast.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(CONFIG | {"vocab_size": len(fast)}, indent=1))
    generation = {"bos_token_id": 0, "eos_token_id": [2], "pad_token_id": 0, "do_sample": False}
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=1))
    return len(fast)


if __name__ == "__main__":
    print(make(Path(sys.argv[1])))
