"""`lmht bench http`: what the HTTP path costs, measured on server processes by the load generator wrk.

One server is under load at a time, pinned to one core, with wrk on another; all stay up, and every round measures each
of them in a new random order (`models.bench.harness`).

| part | what it is |
|---|---|
| `minimal_app`, `rungs` | what the product's server is compared with |
| `servers` | server processes: started, pinned, awaited, ended |
| `wrk`, `post.lua` | the load generator, and the checks that make a run valid |
| `cores` | who runs where |
| `ladder` | a small network: where the time of a request goes, and one connection's latency |
| `large`, `engine` | a network of ResNet-18's size: the server against its own engine |
| `metering` | the same small network with metrics and without |
| `report` | tables and JSON |

Servers are started by the command line and spoken to over HTTP: nothing here imports the service.
"""
