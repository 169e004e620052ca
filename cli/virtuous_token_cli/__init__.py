"""The operator's command ``virtuous-token``: log in to Virtuous, look at connections, check, refresh and remove them.

It logs in and it looks. Refreshing is the function's work, which the command invokes.
"""
