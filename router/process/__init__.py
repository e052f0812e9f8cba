"""What every process that `edge911 run` keeps has in common: begin and end, signals, state directory, logs."""
