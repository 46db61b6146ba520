-- Takes every movement and account away, so that the next scenario begins with an empty bank.
truncate ni.position, ni.state, ni.applied, ni.hold, ni.posting, ni.unbooked, ni.request,
         ni.outbox, ni.packet, ni.unload, ni.problem,
         core.entry, core.packet, core.block, core.account;
