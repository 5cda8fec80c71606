"""The subcommands of `lle`, one module each: `add(commands)` declares it, `run(arguments)` does it.

Libraries are imported inside `run`, so that --help answers at once.
"""
