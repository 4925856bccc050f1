"""LM-HT itself: the neuron, the networks, and everything that happens before a model is served."""
