"""Side by side with other libraries: `rheobase bench`.

Speed is a claim of this project, and a claim needs a command that anybody can run. Workloads say what is trained in no
library's words; each library, in a file of its own, says how it does that fastest; before anything is measured their
spikes and gradients are held against ours; and beside every row stand the dense products alone and the time that memory
would take.
"""
