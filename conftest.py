pytest_plugins = ["bench_tests.plugin"]
