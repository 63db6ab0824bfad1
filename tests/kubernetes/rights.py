"""The rights that the chart gives an agent."""

from render import one, render

# What it lets an agent do everywhere if it writes no Events, and what comes with these.
RULES = one(render(values={"events": False}), "ClusterRole")["rules"]
EVENT_RULES = [rule for role in ("ClusterRole", "Role") for rule in one(render(), role)["rules"] if rule not in RULES]
