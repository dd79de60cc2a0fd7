pytest_plugins = ["bench_tests.pytest_plugin.hooks"]
