"""The one exception that means *your input is wrong*, not *the program is broken*."""


class InputError(ValueError):
    """Bad input from outside: a file, an episode, a key, a flag.

    The message is a single line that says what was expected, what was found and how to fix it.
    The command line prints it and exits with code 2.
    """


class EpisodeError(InputError):
    """One episode cannot be walked or scored, while others can; the message names it."""
