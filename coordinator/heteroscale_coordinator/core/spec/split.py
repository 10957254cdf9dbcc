"""A prefill that is split into attention and ffn (disaggregated MoE): what a user may write of it."""

from __future__ import annotations

from collections.abc import Mapping

from heteroscale.words import Role
from heteroscale_coordinator.core.spec.policy import PolicySpec
from heteroscale_coordinator.core.spec.ratio import RatioSpec
from heteroscale_coordinator.core.spec.roles import RoleSpec

ROLES = {Role.ATTENTION, Role.FFN, Role.DECODE}


def check(
    roles: Mapping[Role, RoleSpec], inner_ratio: RatioSpec | None, policy: PolicySpec
) -> None:
    """Raise ``ValueError``, naming field and fix, where a split prefill does not fit the rest."""
    if Role.FFN not in roles:
        if inner_ratio is not None:
            raise ValueError(
                "innerRatio is attention:ffn; give roles attention, ffn and decode, or leave it out"
            )
        return
    if inner_ratio is None:
        raise ValueError("innerRatio is missing: how many attention for each ffn, e.g. 2:1")
    if inner_ratio.adapt:
        raise ValueError("innerRatio.adapt: ffn has no demand of its own to adapt to; leave it out")
    _check_policy(roles, policy)
    _check_bounds(roles, inner_ratio)


def _check_policy(roles: Mapping[Role, RoleSpec], policy: PolicySpec) -> None:
    for role in (Role.ATTENTION, Role.FFN):
        if roles[role].target == "learn":
            raise ValueError(f"roles.{role}.target: `learn` is for prefill in one; give a number")
    if policy.schedule is not None:
        raise ValueError("policy.schedule is not for a prefill that is split yet; leave it out")
    if policy.ratio_guard.switch_roles:
        raise ValueError(
            "policy.ratioGuard.switchRoles: attention cannot become decode; leave it out"
        )


def _check_bounds(roles: Mapping[Role, RoleSpec], inner_ratio: RatioSpec) -> None:
    """Raise where no counts inside the bounds are in the ratio."""
    attention, ffn = roles[Role.ATTENTION], roles[Role.FFN]
    band = inner_ratio.turned()
    if (low := band.limits(attention.min).low) > ffn.max:
        raise ValueError(
            f"roles.ffn.max {ffn.max} is below the {low} that innerRatio asks for beside the least "
            f"attention, {attention.min}"
        )
    if (high := band.limits(attention.max).high) < ffn.min:
        raise ValueError(
            f"roles.ffn.min {ffn.min} is above the {high} that innerRatio allows beside the most "
            f"attention, {attention.max}"
        )
