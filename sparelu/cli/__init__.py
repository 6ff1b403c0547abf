"""The command line: one file a command, with its name.

Read ``__main__`` first, then ``fit``; ``flags`` makes options of declared settings, ``session`` holds exit codes,
signals and messages.
"""
