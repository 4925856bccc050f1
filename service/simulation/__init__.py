"""The scheduler under load, on a simulated clock.

It is the very code that serves, on an event loop whose time passes at once: an hour of traffic takes seconds, and every
run of a seed is the same. What a batch takes is measured beforehand (`lmht bench costs`), and so is how often a budget
is right (the manifest).

    `clock`    the event loop
    `engine`   batches that take as long as they were measured to
    `traffic`  requests at random times, and what became of them
    `study`    loads and ways of choosing budgets, and the bound that none of them can pass
    `report`   the same as tables
"""
