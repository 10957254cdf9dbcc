"""An agent within a scheduler's job: it stands for one rank of one instance, and ends with it."""

from heteroscale_agent.job.claim import Claim, Post
from heteroscale_agent.job.duty import Duty, End

__all__ = ["Claim", "Duty", "End", "Post"]
