//! How arm64 passes the arguments of system calls. It compiles, but has not been run.

use nix::Result;
use nix::errno::Errno;
use nix::sys::ptrace;
use nix::unistd::Pid;

/// A system call that a stopped thread is about to make.
#[derive(Debug, Clone, Copy)]
pub(in crate::effects) struct Call {
    /// Its number, `SYS_…`.
    pub number: i64,
    /// Its arguments.
    pub args: [u64; 6],
}

/// The call that a thread is stopped in front of.
pub(in crate::effects) fn call(thread: Pid) -> Result<Call> {
    let r = ptrace::getregs(thread)?.regs;
    Ok(Call { number: r[8].cast_signed(), args: [r[0], r[1], r[2], r[3], r[4], r[5]] })
}

/// Has the kernel refuse the call that the thread is stopped in front of. Its number is in no register that can be written
/// here, so the arguments become ones with which every call fails: descriptors and addresses that cannot exist.
pub(in crate::effects) fn skip(thread: Pid) -> Result<()> {
    let mut registers = ptrace::getregs(thread)?;
    registers.regs[..6].fill(u64::MAX);
    ptrace::setregs(thread, registers)
}

/// What the call has returned that the thread is stopped behind.
pub(in crate::effects) fn result(thread: Pid) -> Result<i64> {
    Ok(ptrace::getregs(thread)?.regs[0].cast_signed())
}

/// Lets a call that was skipped return an error, with the arguments as they were: all but the first keep their values
/// across a call.
pub(in crate::effects) fn fail(thread: Pid, call: &Call, errno: Errno) -> Result<()> {
    let mut registers = ptrace::getregs(thread)?;
    registers.regs[..6].copy_from_slice(&call.args);
    registers.regs[0] = i64::from(-(errno as i32)).cast_unsigned();
    ptrace::setregs(thread, registers)
}

/// Where its stack ends.
pub(in crate::effects) fn stack(thread: Pid) -> Result<u64> {
    Ok(ptrace::getregs(thread)?.sp)
}
