"""The fault matrix as data. tests/faults/test_matrix.py runs each row, docs/faults.md shows them all.

Exit codes: 0 passed, 1 an SLO was breached, 2 interrupted, 4 wrong usage, 12 not measured, 13 no server.
"""

from __future__ import annotations

from tests.faults.row import ERROR, FAILED, NOTHING, PASSED, Row

__all__ = ["GROUPS", "ROWS"]


def _sim(name: str, fault: str, verdict: str, code: int, *words: str, switch: str = "", **more: object) -> Row:
    return Row(name, fault, verdict, code, words, (switch or name,), **more)  # type: ignore[arg-type]


NO_SERVER = (
    Row("refused", "nothing listens there", NOTHING, 13, ("no server at", "refused"), provoke="dead_port", how="a closed port"),
    Row("silent", "it accepts and never answers", NOTHING, 13, ("no server at", "timed out"), provoke="silent", how="a socket that accepts"),
    Row("not_http", "something else listens there", NOTHING, 13, ("no server at",), provoke="not_http", how="a socket that greets as SSH does"),
    Row("not_openai", "a web server of another kind", NOTHING, 13, ("not with a list of models",), provoke="web_page", how="a socket that answers everything with a page"),
    Row("dns", "the name does not resolve", NOTHING, 13, ("no server at http://no-such-host.invalid",), options=("--base-url=http://no-such-host.invalid",)),
    Row("wrong_key", "the server wants another key", NOTHING, 13, ("refuses the key (HTTP 401)",), provoke="other_key", how="`$OPENAI_API_KEY` is another"),
    Row("key_with_line_end", "the key ends in a line end", NOTHING, 4, ("characters that a key cannot have",), provoke="key_with_line_end", how="`$OPENAI_API_KEY` read from a file as it is"),
    Row("wrong_model", "another model is served", NOTHING, 13, ("serves simulated, not other",), options=("--model=other",)),
    Row("unhealthy", "/health says that it is not well, and all else works", PASSED, 0, ("/health says HTTP 503",), ("unhealthy",)),
    Row("unhealthy_dead", "the engine behind a living front is dead", NOTHING, 13, ("/health says HTTP 503", "gives no token"), ("unhealthy", "status_500")),
    Row("tls_wrong_name", "the certificate is of another name", NOTHING, 13, ("IP address mismatch",), provoke="tls_wrong_name", how="a certificate for elsewhere.example"),
    Row("tls_expired", "the certificate has expired", NOTHING, 13, ("certificate has expired",), provoke="tls_expired", how="a certificate of yesterday"),
    Row("tls_unknown", "nobody vouches for the certificate", NOTHING, 13, ("certificate verify failed",), provoke="tls_unknown", how="a self-signed certificate"),
    Row("proxy_dead", "the proxy that the environment names is dead", PASSED, 0, (), provoke="dead_proxy", how="`$http_proxy`; the server is on this host, so none is used"),
    Row("tls_insecure", "the same, and --insecure is given", PASSED, 0, ('"insecure": true',), options=("--insecure",), provoke="tls_unknown", how="a self-signed certificate, `--insecure`: recorded in the result"),
    Row("tls_proper", "the certificate is in order", PASSED, 0, (), provoke="tls_proper", how="its authority in `$SSL_CERT_FILE`"),
    Row("ipv6_only", "it listens on IPv6 alone", PASSED, 0, (), spec={"host": "::1"}),
)  # fmt: skip

REFUSING = (
    _sim("status_400", "every request is refused", ERROR, 12, "refuses a completion", "HTTP 400"),
    _sim("status_401", "the key is refused for completions alone", ERROR, 12, "refuses a completion (HTTP 401: Unauthorized)"),
    _sim("status_404", "the model is not there for completions", ERROR, 12, "HTTP 404", "does not exist"),
    _sim("status_429", "a rate limit", ERROR, 12, "HTTP 429 (Retry-After 1)", "too many requests"),
    _sim("status_500", "the server fails each request", ERROR, 12, "HTTP 500"),
    _sim("status_503", "the server is overloaded", ERROR, 12, "HTTP 503", "overloaded"),
    _sim("html_502", "a proxy's page", ERROR, 12, "HTTP 502", "a proxy says this", switch="html:1:502"),
    _sim("html_200", "a login page of HTTP 200", ERROR, 12, "text/html", switch="html:1:200"),
    _sim("redirect", "a redirect: it is not followed, with or without the key", ERROR, 12, "HTTP 307"),
    Row("echo", "an error that repeats the request's headers, key included", ERROR, 12, ("refuses a completion", "***"), provoke="echo", how="a socket that answers with what it was asked"),
)  # fmt: skip

BROKEN = (
    _sim("reset_before_headers", "reset before a byte of the answer", ERROR, 12, "12 cut_off", "before any answer"),
    _sim("reset_mid_stream", "reset in the middle of the stream", ERROR, 12, "12 cut_off", "connection lost"),
    _sim("half_close", "the stream ends without its last chunk", ERROR, 12, "12 cut_off", "connection closed after"),
    _sim("stall_first_token", "headers, then nothing", ERROR, 13, "is stuck: 4 requests in a row", "timeouts.first_token", "4 stalled, 8 cancelled"),
    _sim("stall_mid_stream", "half of the tokens, then nothing", ERROR, 12, "4 requests in a row", "timeouts.between_tokens", "4 stalled, 8 cancelled"),
    _sim("stall_unchunked", "the same without chunks", ERROR, 12, "timeouts.between_tokens", switch="stall_mid_stream", options=(), how="`--fault stall_mid_stream --fault not_chunked`", provoke="also_not_chunked"),
    _sim("slow_headers", "the headers do not come", ERROR, 13, "is stuck: 4 requests in a row", "timeouts.first_token", switch="slow_headers:1:30"),
    _sim("endless", "the stream never ends", ERROR, 12, "12 stalled", "timeouts.request"),
    Row("point_timeout", "the point takes too long", ERROR, 12, ("longer than 1 s", "12 cancelled"), ("stall_first_token",), profile='[timeouts]\npoint = "1s"\n', how="`--fault stall_first_token`, `timeouts.point = \"1s\"`"),
    _sim("error_event", "an error event in a stream of HTTP 200", ERROR, 12, "12 error_event"),
    _sim("some_fail", "one request in four fails", ERROR, 12, "of 12 requests failed", switch="error_event:0.25"),
    Row("some_may_fail", "the same, and the profile allows it", PASSED, 0, (), ("error_event:0.25",), profile="[validity]\nmax_failed_share = 0.9\n", how="`--fault error_event:0.25`, `validity.max_failed_share = 0.9`"),
    _sim("zero_tokens", "a stream without a token", ERROR, 12, "no event with a choice"),
    _sim("malformed_json", "an event whose JSON is broken", ERROR, 12, "12 malformed"),
    _sim("garbage", "binary garbage in the stream", ERROR, 12, "of 12 requests failed"),
    _sim("bad_chunk", "a chunk without a size", ERROR, 12, "12 malformed", "chunk size"),
    _sim("no_done", "no [DONE] after finish_reason and usage", PASSED, 0),
    Row("no_done_no_usage", "no [DONE] and no usage", ERROR, 12, ("no [DONE]",), ("no_done", "no_usage")),
    _sim("no_finish_reason", "no finish_reason", ERROR, 12, "no finish_reason"),
    _sim("fewer_tokens", "fewer tokens than asked", ERROR, 12, "12 short", "4 output tokens of 8"),
    _sim("more_tokens", "more tokens than asked", ERROR, 12, "12 short", "13 output tokens of 8"),
    _sim("no_usage", "no usage, and no tokenizer to count", ERROR, 12, "12 answers came without usage", "model.tokenizer"),
    _sim("wrong_usage", "usage contradicts the request", ERROR, 12, "15 output tokens of 8"),
    _sim("gzip", "gzip, although not asked for", ERROR, 12, "content-encoding gzip"),
    _sim("huge_event", "an event of 10 MB", PASSED, 0, switch="huge_event:0.5:10", options=("--num-prompts=8", "--num-warmups=0"), own_server=True,
         profile="[validity]\nmax_gathered_share = 1.0\n"),  # what comes while a busy machine reads 10 MB is read at once
    _sim("mixed_models", "a gateway falls back to another model", ERROR, 12, "of the answers name another model", switch="model_mislabelled:0.5"),
    _sim("empty_texts", "every event's text is empty", PASSED, 0),
    _sim("late_headers", "headers with the first token", PASSED, 0),
    _sim("split", "events in several segments, cut anywhere", PASSED, 0),
    _sim("gathered", "something gathers the stream", ERROR, 12, "gathers the stream", "proxy_buffering off", "option http-no-delay", switch="coalesce:64"),
    _sim("coalesce", "several events a segment", PASSED, 0, switch="coalesce:4"),
    _sim("tokens_per_event", "several tokens an event", PASSED, 0, switch="tokens_per_event:3"),
    _sim("crlf", "lines end in CRLF", PASSED, 0),
    _sim("comments", "SSE comments between the events", PASSED, 0),
    _sim("not_chunked", "the connection's end is the answer's", PASSED, 0),
    _sim("idle_close", "idle connections are closed", PASSED, 0, switch="idle_close:0.05", options=("--request-rate=20",), profile="[validity]\nmin_rate_share = 0.1\nmax_held_share = 1\n"),
)  # fmt: skip

CHANGING = (
    Row("slow", "the server is slower than its objective", FAILED, 1, ("p99 TTFT", "> 1.0 ms (+"), options=("--slo=p99_ttft<=1ms",), how="`--slo \"p99_ttft<=1ms\"`"),
    Row("model_swapped", "another model is served in the middle of the sweep", ERROR, 12, ("HTTP 404", "does not exist"), provoke="swap_model", options=("--point=isl64-osl8-conc2", "--point=isl64-osl8-conc4"), how="`model_swapped` is switched on after the first point"),
    Row("restart", "the server restarts during a point", ERROR, 12, ("it was restarted",), ("restart@7",), own_server=True),
    Row("engine_dead", "the engine crashes during a sweep", ERROR, 13, ("does not serve any more", "error_event"), ("engine_dead@8",), own_server=True, options=("--point=isl64-osl8-conc4", "--point=isl64-osl8-conc2")),
    Row("server_killed", "the server is killed during a point", ERROR, 13, ("does not serve any more",), ("stall_mid_stream",), own_server=True, provoke="kill_server", how="kill -9 of its processes"),
    Row("short_context", "the context is too short for the point", ERROR, 12, ("needs a context of 72 tokens, the server has 70",), spec={"max_model_len": 70}),
    Row("seen_before", "prompts that the server has in its prefix cache", ERROR, 12, ("prefix cache",), provoke="twice", options=("--seed=7",), own_server=True, how="the same `--seed` twice"),
)  # fmt: skip

OURSELVES = (
    Row("no_descriptors", "the client is out of file descriptors", ERROR, 12, ("Too many open files",), options=("--point=isl64-osl8-conc64", "--num-prompts=64"), provoke="few_descriptors", how="`ulimit -n 48` at concurrency 64"),
    Row("no_ports", "no free local port", ERROR, 12, ("Cannot assign requested address",), options=("--point=isl64-osl8-conc64", "--num-prompts=64"), provoke="few_ports", how="`ip_local_port_range` of 30 ports"),
    Row("no_memory", "the load process runs out of memory", ERROR, 12, ("MemoryError",), ("huge_event:1:50",), options=("--num-prompts=4", "--num-warmups=0"), own_server=True, provoke="little_memory", how="answers of 50 MB within `ulimit -v` of 300 MB"),
    Row("killed", "the load process is killed", ERROR, 12, ("ended with signal 9",), ("stall_mid_stream",), provoke="kill_worker", how="kill -9"),
    Row("held_back", "the load process is stopped for a second", ERROR, 12, ("did not run for",), provoke="stop_worker", options=("--num-prompts=200",), how="SIGSTOP, SIGCONT"),
    Row("clock_stepped", "the clock is set during a point", ERROR, 12, ("the system clock was set by",), provoke="step_clock", options=("--num-prompts=200",), how="the load process's clock, moved by 20 ms"),
    Row("too_few", "fewer requests than the concurrency", ERROR, 12, ("cannot make a concurrency of 4",), options=("--num-prompts=2",)),
    Row("rate_not_met", "the rate is beyond the concurrency", ERROR, 12, ("concurrency 4 holds them back",), options=("--request-rate=5000",)),
    Row("temp_full", "the temporary folder is full", ERROR, 12, ("No space left on device", "$TMPDIR"), provoke="full_temp", options=("--point=isl4096-osl8-conc4",), how="`$TMPDIR` of 64 kB"),
    Row("crash", "a bug of our own, with --showlocals", NOTHING, 12, ("provoked here",), options=("--showlocals", "-vv"), provoke="crash", traceback=True, how="an exception in the middle of a measurement"),
)  # fmt: skip

FILES = (
    Row("disk_full", "the disk is full", NOTHING, 12, ("results cannot be written", "No space left on device"), provoke="full_disk", how="`--results-dir` of 16 kB"),
    Row("read_only", "the results directory is read-only", NOTHING, 12, ("results cannot be written", "Read-only file system"), provoke="read_only", how="a read-only mount"),
    Row("no_directory", "the results directory is a file", NOTHING, 4, ("results cannot be written",), provoke="results_is_a_file", how="`--results-dir` names a file"),
    Row("half_result", "a result file is cut in half, and --resume", PASSED, 0, (), options=("--resume",), provoke="half_result", how="an earlier result, cut: it is measured again"),
    Row("resume", "--resume with a whole result", PASSED, 0, ("(reused)",), options=("--resume",), provoke="whole_result", how="an earlier result: it is reused"),
    Row("resume_other", "--resume with a result of other settings", PASSED, 0, (), options=("--resume", "--num-prompts=13"), provoke="whole_result", how="an earlier result of 12 prompts, now 13: it is measured again"),
    Row("two_sweeps", "two sweeps in one results directory", PASSED, 0, (), provoke="two_sweeps", how="two sessions at the same time"),
)  # fmt: skip

INTERRUPTED = (
    Row("ctrl_c", "Ctrl-C during a point", ERROR, 2, ("interrupted",), provoke="interrupt", options=("--num-prompts=4000",), how="SIGINT; the finished requests are kept, the point is marked"),
    Row("sigterm", "SIGTERM during a point", ERROR, 2, ("interrupted",), provoke="terminate", options=("--num-prompts=4000",), how="SIGTERM; as Ctrl-C"),
    Row("ctrl_c_twice", "Ctrl-C twice while a load process hangs", NOTHING, 2, (), provoke="interrupt_twice", options=("--num-prompts=4000",), how="SIGSTOP to the load process, SIGINT twice: it ends at once"),
)  # fmt: skip

USAGE = (
    Row("unknown_profile", "no such profile", NOTHING, 4, ("expected one of", "kimi_k2"), options=("--profile=kimi",)),
    Row("misspelt_key", "a key of the profile is misspelt", NOTHING, 4, ("num_promts", "did you mean num_prompts"), profile="[load]\nnum_promts = 3\n"),
    Row("negative_isl", "a negative ISL", NOTHING, 4, ("sweep.isl", "-64"), profile="[sweep]\nisl = [-64]\n"),
    Row("no_concurrency", "a concurrency of 0", NOTHING, 4, ("sweep.concurrency", "expected a whole number of at least 1"), profile="[sweep]\nconcurrency = [0]\n"),
    Row("not_toml", "the profile is no TOML", NOTHING, 4, ("not TOML",), profile="[load\n"),
    Row("bad_point", "a point in another form", NOTHING, 4, ("isl2048-osl128-conc16",), options=("--point=isl64,osl8",)),
    Row("no_tokenizer", "text prompts without a tokenizer", ERROR, 12, ("model.tokenizer",), profile='[load]\nprompt_format = "text"\n[model]\ntokenizer = "/no/such/folder"\n', how='`prompt_format = "text"`, `tokenizer = "/no/such/folder"`'),
    Row("key_in_url", "a key in the URL", NOTHING, 4, ("a key does not belong in a URL", "***"), provoke="key_in_url", how="`--base-url http://user:KEY@host`"),
    Row("hostile_info", "a server_info.txt that names a file", NOTHING, 4, ("line 1", "http://node1:8000"), provoke="hostile_info", how="`file:///etc/passwd` in its first line"),
)  # fmt: skip

GROUPS = {
    "Before the first load": NO_SERVER,
    "The server refuses": REFUSING,
    "Streams": BROKEN,
    "The server changes": CHANGING,
    "The client and its host": OURSELVES,
    "Files": FILES,
    "Interruption": INTERRUPTED,
    "Wrong usage": USAGE,
}
ROWS = tuple(row for rows in GROUPS.values() for row in rows)
