"""Make a LoRA adapter of random weights for the tiny model of tests/vllm/make_tiny_model.py.

python tests/servers/make_lora.py FOLDER OUT        (needs safetensors and numpy)
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

RANK = 8


def make(folder: Path, out: Path) -> None:
    """Write the adapter's folder `out`: rank 8 on the query and value projections of each layer."""
    import numpy as np
    from safetensors.numpy import save_file

    config = json.loads((folder / "config.json").read_text())
    width, head = config["hidden_size"], config["head_dim"]
    rows = {"q_proj": config["num_attention_heads"] * head, "v_proj": config["num_key_value_heads"] * head}
    random = np.random.default_rng(0)
    tensors = {}
    for layer in range(config["num_hidden_layers"]):
        for name, size in rows.items():
            at = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            tensors[f"{at}.lora_A.weight"] = random.normal(0, 0.02, (RANK, width)).astype(np.float32)
            tensors[f"{at}.lora_B.weight"] = random.normal(0, 0.02, (size, RANK)).astype(np.float32)
    out.mkdir(parents=True, exist_ok=True)
    save_file(tensors, out / "adapter_model.safetensors")
    said = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": 16, "lora_dropout": 0.0,
            "bias": "none", "target_modules": list(rows), "base_model_name_or_path": str(folder)}  # fmt: skip
    (out / "adapter_config.json").write_text(json.dumps(said, indent=1))


if __name__ == "__main__":
    make(Path(sys.argv[1]), Path(sys.argv[2]))
