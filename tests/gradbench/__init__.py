"""GradBench's problems in plain torch, as losses for `fastpoly.value_and_grad` (github.com/gradbench/gradbench)."""
