"""A profile's [sim] table as the simulated server's own settings: the same server in the session's hands and in a job."""

from __future__ import annotations

from dataclasses import fields

from bench_tests.sim.spec import SimSpec
from bench_tests.sweep.profile import Profile

__all__ = ["sim_flags", "sim_spec"]


def sim_spec(profile: Profile) -> SimSpec:
    """What the profile's [sim] describes. Raises UsageError for what the simulated server cannot be."""
    sim = profile.sim
    return SimSpec(
        model=profile.model.id or "simulated",
        max_model_len=sim.max_model_len,
        base_ms=sim.step_ms,
        per_seq_us=sim.step_per_seq_us,
        per_ktoken_us=sim.step_per_ktoken_us,
        prefill_tok_per_s=sim.prefill_tok_per_s,
        max_num_batched_tokens=sim.max_batched_tokens,
        max_num_seqs=sim.max_num_seqs,
        think_tokens=sim.think_tokens,
        kv_cache_tokens=sim.kv_cache_tokens,
        preempt=sim.preempt,
        faults=sim.faults,
    )


def sim_flags(profile: Profile) -> list[str]:
    """The same as flags of `python -m bench_tests.server.simulator`, the model left out."""
    spec, flags = sim_spec(profile), []
    for setting in fields(SimSpec):
        value = getattr(spec, setting.name)
        if setting.name in ("model", "api_key", "faults") or value == setting.default:
            continue
        name = setting.name.replace("_", "-")
        flags += [f"--{'' if value else 'no-'}{name}"] if isinstance(value, bool) else [f"--{name}", str(value)]
    for fault in spec.faults:
        flags += ["--fault", fault]
    return flags
