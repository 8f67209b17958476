"""Commands on a study's folder: `python -m tune_jobs COMMAND STUDY`; one module each, none but serve needs Ray."""
