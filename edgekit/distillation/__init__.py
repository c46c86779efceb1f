"""Distillation: losses between a teacher and a student, and the trainer with its checkpoints."""
