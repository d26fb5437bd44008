"""The main job on a table made for it: ``python -m ooclearn demo``.

Writes a table larger than the memory it is allowed, fits a pipeline and predicts from disk to disk, and
reports what it took: passes, seconds, memory, accuracy on rows that were not trained on, beside scikit-learn
on a sample.
"""
