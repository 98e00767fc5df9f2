"""Side by side with other libraries: `rheobase bench`.

Speed is a claim of this project, and a claim needs a command that anyone can run. Workloads define what is trained
independently of any library; each library has a file with its fastest way to do it; before anything is measured, its spikes and
gradients are compared with ours; and every row is accompanied by the dense products alone and the time that memory would take.
"""
