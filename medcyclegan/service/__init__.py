"""A DICOM node that translates what it receives and sends the results: the command ``serve``.

A study is a folder of the queue, and its state is the name of the folder above it. Three threads move studies from one
state to the next: :mod:`~medcyclegan.service.intake` receives, :mod:`~medcyclegan.service.translation` translates in
another process, :mod:`~medcyclegan.service.delivery` sends.
"""
