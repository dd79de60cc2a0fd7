"""What an endpoint is sent, and which events of its answers count: a module each. The timed loop knows none of it."""
