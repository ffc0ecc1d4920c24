//! Leader and learner against scripts, and a whole ensemble of them against faults drawn from a seed.

mod leader;
mod learner;
mod noise;
mod seeds;
mod show;
