"""What a load test found, told: everything here reads a `loadtest.record.Record` and nothing else.

    `table`      on the terminal
    `summary`    as CSV, a line per run
    `page`       as one HTML file, whose parts are `sections`; how it looks: `page.css`, `chart.css`
    `sentences`  what it says, in words
    `pareto`     the picture of what accuracy costs, alone, as one SVG file
    `compare`    two records against each other, with a verdict: `lmht loadtest compare`
    `command`    all but the last of them again, from a record that was written: `lmht loadtest report`

Below them:

    `reading`    what is read out of a record: which runs make a curve, which stands for a budget
    `comparable`, `differences`   which runs of two records may be compared, and what of it noise could explain
    `estimates`  how sure a figure is: intervals of shares, block bootstrap over windows
    `figures`    from a record to `charts`, which `drawing` makes SVG of, with `scales` and `labels`
    `words`      numbers, units and names as text
    `markup`     text as HTML and SVG: the one place that escapes
"""
