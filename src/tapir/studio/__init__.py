"""`tapir studio`: a local web application to look at runs, also while they work, and to mark what a person sees.

It reads run directories and writes nothing but marks. Pages are trees of elements (`report.markup`), so that no text of
a model can become markup; whoever may ask what is `guard`'s.
"""
