"""What the requests are: recorded traces, datasets of prompts, shared prefixes. Random prompts are in load/prompts.py."""
