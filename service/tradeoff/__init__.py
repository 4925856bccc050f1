"""What each time-step budget buys and costs, measured through a running server: `lmht tradeoff`.

`measure`    the same pictures at every budget, interleaved, over HTTP
`estimates`  means, differences and ratios, and how sure they are
`study`      what was measured, by budget
`report`     the same as tables, as JSON and as a plot
"""
