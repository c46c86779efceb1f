"""What to prune and how much: importance of heads, neurons and layers, their cost, and the choice under a budget."""
