"""The paper's tables as runnable code: what they compare, training it, and the tables again."""
