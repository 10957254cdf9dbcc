"""The paper's study of signals on the plant: one signal a run, the same daily load."""
