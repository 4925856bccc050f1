"""The paper's experiments on data at hand: methods, their trainings, and a report laid out as the paper's tables are.

`plan` says what is trained, `run` trains and measures it, `report` writes it down, `paper` holds the figures quoted.
"""
