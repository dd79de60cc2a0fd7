"""The plugin as pytest takes it: its modules. `conftest.py` of a checkout and the entry point of an installation name it."""

pytest_plugins = [
    "bench_tests.pytest_plugin.options",
    "bench_tests.pytest_plugin.cases",
    "bench_tests.pytest_plugin.fixtures",
    "bench_tests.pytest_plugin.capacity",
    "bench_tests.pytest_plugin.reports",
]
