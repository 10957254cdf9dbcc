"""`heteroscale doctor`: what of this host can be read, reached and done, and what to do about the rest.

It looks and changes nothing. Each subject is a small file of looks; they run side by side, each in a
thread of its own with a deadline, so that a driver or a name server that hangs is a finding among
others. What a look says is one `Finding`: ok, note (works, but know it) or problem.
"""
