"""What looks on while a study runs: names, metrics, pictures and logs; none of it decides a number or ends a trial."""
