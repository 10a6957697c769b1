"""The same work on a Ray cluster: generation, scoring, training. One module for each, Ray imported inside functions.

What is worked on, and the account of it, stay with `models`, `training` and the stages; the ledger stays on the driver.
"""
