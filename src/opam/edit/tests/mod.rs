//! Edits case by case, at random, and between two real repositories.

mod world;
