"""The commands as typer sees them: names, options and help. What they do is in the rooms above.

Their bodies import those rooms when they run, so that help and completion load no gRPC.
"""
