"""Watch first: what is there, what the policy would have done with it, and what that would have saved.

Read-only, without a coordinator: an existing Prometheus is asked, and nothing else.
"""
