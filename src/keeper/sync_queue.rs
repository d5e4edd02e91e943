//! Which of many archives is asked for next, so that no host keeps the others waiting.

use crate::upstream::Turns;
use std::cmp::Reverse;

/// What is not asked for yet, by host.
pub(super) struct Queue<T> {
    hosts: Vec<Host<T>>,
    turns: Turns,
    under_way: usize,
    /// How many of them went to who had the most left.
    to_busiest: usize,
}

struct Host<T> {
    left: Vec<T>,
    /// How many it is asked for by now.
    under_way: usize,
}

/// A turn with a host, to be ended in the queue that gave it.
#[derive(Debug)]
pub(super) struct Turn {
    host: usize,
    is_busiest: bool,
}

impl<T> Queue<T> {
    /// What there is to ask each host for, and how many turns there are at one time.
    pub(super) fn new(hosts: impl IntoIterator<Item = Vec<T>>, turns: Turns) -> Self {
        let hosts = hosts.into_iter().map(|left| Host { left, under_way: 0 });
        Self { hosts: hosts.collect(), turns, under_way: 0, to_busiest: 0 }
    }

    /// What is asked for next, if there is a turn for it.
    ///
    /// Half of all turns go to the host with the most left for each of its turns, so that the busiest
    /// does not remain alone in the end; the others to the one with the fewest turns, so that hosts
    /// that take long for each keep no one waiting.
    pub(super) fn next(&mut self) -> Option<(Turn, T)> {
        if self.under_way >= self.turns.all {
            return None;
        }
        let most = self.turns.per_host;
        let hosts = self.hosts.iter_mut().enumerate();
        let free = hosts.filter(|(_, host)| host.under_way < most && !host.left.is_empty());
        let is_busiest = self.to_busiest < self.turns.all / 2;
        let (number, host) = match is_busiest {
            true => free.max_by_key(|(_, host)| host.left.len() / (host.under_way + 1)),
            false => free.min_by_key(|(_, host)| (host.under_way, Reverse(host.left.len()))),
        }?;
        let next = host.left.pop()?;
        host.under_way += 1;
        self.under_way += 1;
        self.to_busiest += usize::from(is_busiest);
        Some((Turn { host: number, is_busiest }, next))
    }

    /// A turn is over.
    pub(super) fn end(&mut self, turn: Turn) {
        self.hosts[turn.host].under_way -= 1;
        self.under_way -= 1;
        self.to_busiest -= usize::from(turn.is_busiest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hosts with so many left each; what is left is the number of its host.
    fn queue(left: &[usize], all: usize, per_host: usize) -> Queue<usize> {
        let hosts = left.iter().enumerate().map(|(host, left)| vec![host; *left]);
        Queue::new(hosts, Turns { all, per_host })
    }

    fn all_turns(queue: &mut Queue<usize>) -> Vec<Turn> {
        std::iter::from_fn(|| queue.next()).map(|(turn, _)| turn).collect()
    }

    #[test]
    fn no_host_and_not_all_together_get_more_turns_than_there_are() {
        let mut both = queue(&[100, 100], 10, 3);
        assert_eq!(all_turns(&mut both).len(), 6);
        let mut many = queue(&[1; 30], 10, 3);
        let turns = all_turns(&mut many);
        assert_eq!(turns.len(), 10);
        turns.into_iter().for_each(|turn| many.end(turn));
        assert_eq!(all_turns(&mut many).len(), 10);
    }

    #[test]
    fn hosts_that_take_long_keep_no_one_waiting() {
        // All but the last never end a turn.
        let mut queue = queue(&[1000, 1000, 1000, 50], 18, 8);
        let mut turns = all_turns(&mut queue);
        let mut quick = 0;
        while let Some(at) = turns.iter().position(|turn| turn.host == 3) {
            queue.end(turns.swap_remove(at));
            quick += 1;
            turns.extend(all_turns(&mut queue));
        }
        assert_eq!(quick, 50);
    }

    #[test]
    fn the_busiest_host_has_all_its_turns_from_the_beginning() {
        let mut left = vec![800];
        left.extend([3; 150]);
        let mut queue = queue(&left, 18, 8);
        let mut turns: std::collections::VecDeque<_> = all_turns(&mut queue).into();
        let mut all = 0;
        while let Some(turn) = turns.pop_front() {
            let under_way = std::iter::once(&turn).chain(&turns);
            let busy = under_way.filter(|turn| turn.host == 0).count();
            assert!(busy >= queue.hosts[0].left.len().min(8), "after {all}");
            queue.end(turn);
            turns.extend(all_turns(&mut queue));
            all += 1;
        }
        assert_eq!(all, 800 + 450);
    }
}
