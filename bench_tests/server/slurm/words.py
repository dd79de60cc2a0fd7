"""Slurm's reasons and states in words for a person, and which of them no waiting will fix."""

from __future__ import annotations

import re

__all__ = ["ENDED", "WAITING", "cause_in_log", "ended_words", "pending_words"]

WAITING = frozenset(
    {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD"}
)
ENDED = frozenset(
    {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "OUT_OF_MEMORY", "BOOT_FAIL"}
    | {"DEADLINE", "REVOKED", "LAUNCH_FAILED", "RECONFIG_FAIL", "UNKNOWN"}
)

# the first pattern that fits (whole reason) speaks; True: it stays so until somebody changes the job or the cluster
_REASONS: tuple[tuple[str, str, bool], ...] = (
    ("None|", "Slurm has not looked at it yet", False),
    ("Resources", "waits for free nodes, GPUs or memory", False),
    ("Priority", "other jobs are before it", False),
    (
        "BeginTime",
        "may not start yet (a start time was set, or it was requeued and Slurm waits about two minutes)",
        False,
    ),
    ("Dependency", "waits for another job (a dependency)", False),
    ("DependencyNeverSatisfied", "waits for a job that can no longer end as its dependency asks", True),
    ("JobHeldUser", "is held by the user; `scontrol release` lets it go", False),
    ("JobHeldAdmin", "is held by an administrator, or by Slurm after a failed start", False),
    (
        "launch_failed_requeued_held",
        "could not be started on its node and is held now (see the node's slurmd log)",
        True,
    ),
    ("job_requeued_in_held_state", "was requeued and is held; `scontrol release` lets it go", False),
    ("PartitionNodeLimit", "asks for more (or fewer) nodes than its partition allows or has", True),
    ("PartitionTimeLimit", "asks for more time than its partition allows", True),
    ("PartitionDown", "its partition is down", False),
    ("PartitionInactive", "its partition is inactive: it starts no jobs", False),
    ("PartitionConfig", "its partition does not allow what it asks for", True),
    ("BadConstraints", "asks for a combination of features that no node has", True),
    ("MaxMemPerLimit", "asks for more memory than is allowed", True),
    ("AccountNotAllowed", "its account may not use this partition", True),
    ("QOSNotAllowed", "its quality of service may not be used here", True),
    ("InvalidAccount", "its account is not valid", True),
    ("InvalidQOS", "its quality of service is not valid", True),
    ("ReservationDeleted", "its reservation was deleted", True),
    ("Reservation", "waits for its reservation to begin", False),
    ("DeadLine", "cannot end before its deadline any more", True),
    (
        r"ReqNodeNotAvail.*|NodeDown|Nodes_required_for_job_are_DOWN.*|NodesUnavailable",
        "the nodes that it needs are down, drained or reserved",
        False,
    ),
    (
        r"AssocGrp\w*(Minutes|RunMinutes)\w*|QOSGrp\w*Minutes\w*",
        "the account's or QOS's budget of time is used up",
        False,
    ),
    (r"(Assoc|QOS)Grp\w*", "the account or QOS is at its limit; waits for its other jobs to end", False),
    (
        r"(Assoc|QOS)(Max|Min)\w*(PerJob|PerNode)\w*|QOSMin\w+|QOSTimeLimit",
        "asks for more than its account or QOS allows a job",
        True,
    ),
    (r"(Assoc|QOS)\w*", "the account, user or QOS is at its limit; waits for other jobs to end", False),
    ("Licenses", "waits for a licence", False),
    ("JobArrayTaskLimit", "its array may not run more tasks at a time", False),
    ("Prolog|Cleaning|BurstBuffer.*", "is being prepared", False),
)


# slurmstepd writes into a job's log why it ends it, at once and while Slurm itself still says COMPLETING or PENDING
_CAUSE = re.compile(r"\*\*\* JOB \d+ ON (\S+) CANCELLED AT \S+(?: DUE TO ([A-Z ]+?))?(?:,[^*]*)? \*\*\*")


def cause_in_log(text: str) -> str | None:
    """What slurmstepd says last in a job's log: `reached its time limit`, `was preempted`, ...; None: nothing."""
    found = list(_CAUSE.finditer(text))
    if not found:
        return None
    node, cause = found[-1].groups()
    words = {
        None: "was cancelled",
        "TIME LIMIT": "reached its time limit",
        "PREEMPTION": "was preempted by another job",
        "NODE FAILURE": f"lost its node {node}",
        "JOB REQUEUE": "was requeued by hand",
    }
    return words.get(cause, f"was ended by Slurm ({str(cause).lower()})")


def pending_words(reason: str) -> tuple[str, bool]:
    """Why a job is pending, with Slurm's own word in brackets; and whether that will never end by waiting."""
    name = reason.strip("() ").replace(" ", "_")
    for pattern, words, never in _REASONS:
        if re.fullmatch(pattern, name):
            return f"{words} ({reason or 'None'})", never
    return f"Slurm says: {reason}", False


def ended_words(state: str, reason: str, exit_code: str, *, time_limit: str, near_limit: bool, nodes: str) -> str:
    """How a job ended: `was cancelled`, `reached its time limit of 04:00:00`, `lost its node gpu1`, ...

    `exit_code` is Slurm's CODE:SIGNAL; `near_limit`: it ran for nearly its time limit, so a TERM ahead of it ended it.
    """
    code, _, number = exit_code.partition(":")
    told_to_stop = code == "143" or number == "15"
    stopped_by_limit = near_limit and told_to_stop and state in ("FAILED", "COMPLETED")
    if state == "TIMEOUT" or reason == "TimeLimit" or stopped_by_limit:
        return f"reached its time limit of {time_limit}"
    if state == "NODE_FAIL" or reason == "NodeDown":
        return f"lost its node {nodes}" if nodes else "lost its node"
    if state == "OUT_OF_MEMORY" or reason == "OutOfMemory":
        return "ran out of memory (raise slurm.memory)"
    if state == "CANCELLED":
        return "was cancelled"
    if state == "PREEMPTED":
        return "was preempted by another job"
    if state == "DEADLINE":
        return "reached its deadline"
    if state == "BOOT_FAIL":
        return "lost its node at boot"
    if state == "COMPLETING":
        return "is ending (cancelled, or told to stop)" if told_to_stop else "is ending"
    if state == "COMPLETED":
        return "ended by itself, with exit code 0"
    if told_to_stop:
        return "was told to stop (TERM)"
    if state == "FAILED":
        return f"failed with {f'signal {number}' if number not in ('', '0') else f'exit code {code}'}"
    if state in ("SUSPENDED", "STOPPED"):
        return "is suspended"
    return f"is {state}"
