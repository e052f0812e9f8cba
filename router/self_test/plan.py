"""The plan of a test call of our own: made as for any caller, then for the site and the route that are tried."""

from dataclasses import replace

from e911.locate import LocationDecision
from e911.location import LocationSource
from e911.numbers import dialable
from e911.record import SourceAnswer, SourceOutcome
from router.emergency.call_routes import ladder_for
from router.emergency.decision import CallPlan
from router.emergency.rules import Rules
from router.self_test.proof import Asked

OTHER_ROUTE = "not-tested"
"""Why the other routes are left out."""


def plan_for(rules: Rules, plan: CallPlan, asked: Asked) -> CallPlan:
    """The plan of that call. A site or route that is not (any more) in the configuration changes nothing."""
    place = rules.places.find(asked.site)
    if place is not None:
        site = place.site
        callback = dialable(site.callback) or plan.decision.callback
        location = place.site_location
        decision = LocationDecision(
            device=None,
            device_reason="self-test",
            site=site,
            site_reason="self-test",
            zone=None,
            location=location,
            answers=(
                SourceAnswer(
                    source=LocationSource.SITE.value,
                    outcome=SourceOutcome.WON if location else SourceOutcome.MISSED,
                    reason="self-test" if location else "no-address",
                ),
            ),
            callback=callback,
            callback_source="site" if callback else "",
            contacts=site.contacts or tuple(rules.config.contacts),
        )
        steps, ladder = ladder_for(rules, decision, plan.kind)
        caller = replace(plan.caller, callback=callback, callback_source="site", reason="self-test")
        plan = replace(plan, decision=decision, steps=steps, ladder=ladder, caller=caller)
    if any(step.name == asked.route for step in plan.ladder):
        steps = tuple(
            step if step.name == asked.route or step.skipped else replace(step, skipped=OTHER_ROUTE)
            for step in plan.steps
        )
        plan = replace(plan, steps=steps, ladder=tuple(step for step in steps if not step.skipped))
    return plan
