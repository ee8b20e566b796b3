"""`make gpu`: everything that only a machine with a CUDA GPU can tell, in the few minutes for which one has it.

Requirements: one command; what crashes, hangs or poisons CUDA's context costs one measurement and no other; whatever
was found is on disk at once; a run that was cut goes on where it stopped, on another day and machine, as long as the
sources, the card and the versions are the same; nothing is needed but numpy, llvmlite, torch, triton and pytest.

The list of what is done is `stages`. Of each stage `driver` starts a process (`process`), which for the stages that are
made of units is `child`, and keeps its rows in a `book`. `result` makes of the rows the file that `make report` and
bench/readme.py read, with the `bars` that the figures are held to; `summary` prints them.

With FASTPOLY_EMULATED=1 a machine without a GPU runs all of it at tiny sizes, on tests/emulated_cuda.py. That finds
mistakes in these files, and its figures mean nothing: they are kept nowhere.
"""
