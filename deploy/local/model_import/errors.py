"""The exception whose message is shown to the user as it is."""


class ImportFailed(Exception):
    """What is wrong with the input, and what is allowed instead, in one sentence."""
