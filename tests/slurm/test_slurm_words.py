"""Slurm's words in ours, and its records read: what needs no cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench_tests.errors import UsageError
from bench_tests.server.slurm import serve
from bench_tests.server.slurm.__main__ import main
from bench_tests.server.slurm.control import Job, _parse
from bench_tests.server.slurm.request import gpus_per_node, job_environment, sbatch_options
from bench_tests.server.slurm.words import cause_in_log, ended_words, pending_words
from tests.slurm.conftest import MakeProfile


@pytest.mark.parametrize(
    "reason, words, never",
    [
        ("Resources", "free nodes", False),
        ("Priority", "before it", False),
        ("(Priority)", "before it", False),
        ("JobHeldUser", "scontrol release", False),
        ("DependencyNeverSatisfied", "no longer end", True),
        ("PartitionTimeLimit", "more time", True),
        ("PartitionNodeLimit", "nodes", True),
        ("ReqNodeNotAvail, UnavailableNodes:gpu[1-3]", "down, drained or reserved", False),
        ("Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions", "down", False),
        ("AssocMaxWallDurationPerJobLimit", "its account or QOS allows a job", True),
        ("QOSMaxGRESPerJob", "allows a job", True),
        ("QOSMaxCpuPerUserLimit", "at its limit", False),
        ("AssocGrpGRES", "at its limit", False),
        ("QOSGrpGRESMinutes", "budget", False),
        ("SomethingNew", "Slurm says: SomethingNew", False),
    ],
)
def test_why_it_is_pending_and_whether_waiting_helps(reason: str, words: str, never: bool) -> None:
    text, hopeless = pending_words(reason)
    assert words in text
    assert hopeless is never


@pytest.mark.parametrize(
    "state, reason, exit_code, near, words",
    [
        ("TIMEOUT", "TimeLimit", "0:15", False, "reached its time limit of 04:00:00"),
        ("FAILED", "NonZeroExitCode", "143:0", True, "reached its time limit of 04:00:00"),
        ("FAILED", "NonZeroExitCode", "143:0", False, "was told to stop (TERM)"),
        ("FAILED", "NonZeroExitCode", "3:0", True, "failed with exit code 3"),
        ("FAILED", "RaisedSignal:9(Killed)", "0:9", False, "failed with signal 9"),
        ("CANCELLED", "", "143:0", False, "was cancelled"),
        ("NODE_FAIL", "NodeDown", "143:0", True, "lost its node gpu[1-2]"),
        ("PREEMPTED", "", "0:15", False, "was preempted by another job"),
        ("OUT_OF_MEMORY", "OutOfMemory", "0:125", False, "ran out of memory (raise slurm.memory)"),
        ("COMPLETED", "", "0:0", False, "ended by itself, with exit code 0"),
        ("SUSPENDED", "", "0:0", False, "is suspended"),
    ],
)
def test_how_it_ended(state: str, reason: str, exit_code: str, near: bool, words: str) -> None:
    said = ended_words(state, reason, exit_code, time_limit="04:00:00", near_limit=near, nodes="gpu[1-2]")
    if state == "NODE_FAIL":
        assert said == words
    assert words in said


def test_what_slurmstepd_writes_into_the_log() -> None:
    line = "slurmstepd-gpu1: error: *** JOB 12 ON gpu1 CANCELLED AT 2026-11-21T21:16:54{} ***\n"
    assert cause_in_log("nothing") is None
    assert cause_in_log(line.format("")) == "was cancelled"
    assert cause_in_log(line.format(" DUE TO TIME LIMIT")) == "reached its time limit"
    assert cause_in_log(line.format(" DUE TO PREEMPTION")) == "was preempted by another job"
    node = line.format(" DUE TO NODE FAILURE, SEE SLURMCTLD LOG FOR DETAILS")
    assert cause_in_log(line.format("") + node + "serve: stopped after TERM") == "lost its node gpu1"
    assert cause_in_log(line.format(" DUE TO JOB REQUEUE")) == "was requeued by hand"
    assert cause_in_log(line.format(" DUE TO SOMETHING")) == "was ended by Slurm (something)"


def test_a_record_of_scontrol() -> None:
    line = (
        "JobId=7 JobName=x JobState=FAILED UserId=me(1) JobState=RUNNING Reason=None Restarts=2 ExitCode=0:0 "
        "RunTime=1-02:03:04 TimeLimit=UNLIMITED StartTime=2026-11-21T21:16:43 Partition=main ReqNodeList=gpu9 "
        "NodeList=gpu[1-2] NumNodes=2 {} StdOut=/a/b.log Power="
    )
    job = _parse("7", line.format("TresPerNode=gres:gpu:4"))
    assert (job.state, job.restarts, job.nodes, job.num_nodes, job.gpus) == ("RUNNING", 2, "gpu[1-2]", 2, 8)
    assert (job.run_time_s, job.log, job.reason) == (93784.0, "/a/b.log", "")
    for tres in (
        "TRES=cpu=1,node=2,billing=1,gres/gpu=8",
        "ReqTRES=cpu=1,gres/gpu=1 AllocTRES=cpu=2,gres/gpu=8,gres/gpu:h100=8",
        "TresPerNode=gres/gpu:4",
        "TresPerNode=gres/gpu:h100:4",
    ):
        assert _parse("7", line.format(tres)).gpus == 8
    assert _parse("7", line.format("")).gpus is None
    assert "not known to Slurm any more" in Job("7", "UNKNOWN").words()


def test_a_job_that_is_being_signalled_runs() -> None:
    """Slurm shows the state for a moment, also for a mere warning ahead of the time limit."""
    assert _parse("7", "JobId=7 JobName=x UserId=me(1) JobState=SIGNALING Reason=None ExitCode=0:0").state == "RUNNING"


def test_what_a_profile_asks_for(make_profile: MakeProfile, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["options", "minimax_m2.1"]) == 0
    asked = capsys.readouterr().out.split()
    assert {"--gpus-per-node=4", "--mem=128G", "--nodes=1", "--job-name=serve-minimax_m2.1"} <= set(asked)
    assert main(["options", "minimax; x"]) == 4
    told = capsys.readouterr()
    assert "minimax_m2.1" in told.err
    assert told.out == "--no-profile-of-this-name=minimax__x\n", "an option that sbatch refuses"
    for mistyped in (["option", "minimax_m2.1"], ["options"], ["options", "kimi_k2", "x"], []):
        with pytest.raises(SystemExit):
            main(mistyped)
        assert capsys.readouterr().out.startswith("--no-profile-of-this-name="), mistyped
    wide = make_profile(server="nodes = 3\ntensor_parallel = 8\npipeline_parallel = 2")
    assert gpus_per_node(wide) == 6
    said = sbatch_options(make_profile(slurm='cpus = 9\npartition = "p"\naccount = "a"\nextra = ["--qos=high"]'))
    assert said[-4:] == ["--cpus-per-task=9", "--partition=p", "--account=a", "--qos=high"]
    with pytest.raises(UsageError, match="blanks"):
        sbatch_options(make_profile(slurm='extra = ["--comment=a b"]'))


def test_a_job_gets_no_key_and_nothing_of_the_job_around_it() -> None:
    around = {"OPENAI_API_KEY": "k", "VLLM_API_KEY": "k", "SLURM_MEM_PER_NODE": "1", "SLURM_CONF": "/c", "PATH": "/bin"}
    env = job_environment(around)
    assert {name for name in env if name in around} == {"SLURM_CONF", "PATH"}


def test_folders_that_cannot_be_made_get_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "results"))
    monkeypatch.setenv("LOGS_DIR", str(tmp_path / "file" / "logs"))
    assert serve.main(["--profile", "demo", f"--server-info={tmp_path}/info.txt"]) == 4
    said = capsys.readouterr().err
    assert f"$LOGS_DIR '{tmp_path}/file/logs': Not a directory; expected a folder" in said
    assert said.count("\n") == 1
    assert (tmp_path / "results").is_dir()


def test_a_job_with_too_few_gpus_says_how_to_submit_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("SLURM_GPUS_ON_NODE", "4")
    monkeypatch.setenv("WEIGHTS_DIR", "")
    assert serve.main(["--profile", "kimi_k2"]) == 4
    assert "needs 8 GPUs on a node and the job has 4; submit it with `sbatch $(" in capsys.readouterr().err
    (tmp_path / "mine.toml").write_text('base = "kimi_k2"\n')
    monkeypatch.chdir(tmp_path)
    assert serve.main(["--profile", "mine.toml"]) == 4
    path = f"{tmp_path}/mine.toml"
    assert f"slurm options {path}) slurm/serve.sh {path}`" in capsys.readouterr().err
    for name in ("LOGS_DIR", "RESULTS_DIR", "CACHE_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    monkeypatch.delenv("WEIGHTS_DIR")
    monkeypatch.setenv("SLURM_GPUS_ON_NODE", "8")
    assert serve.main(["--profile", "kimi_k2", "--no-container"]) == 4
    assert "$WEIGHTS_DIR, which is not set; export WEIGHTS_DIR=" in capsys.readouterr().err
