//! How x86-64 passes the arguments of system calls.

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
    let r = ptrace::getregs(thread)?;
    Ok(Call { number: r.orig_rax.cast_signed(), args: [r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9] })
}

/// Has the kernel skip the call that the thread is stopped in front of.
pub(in crate::effects) fn skip(thread: Pid) -> Result<()> {
    let mut registers = ptrace::getregs(thread)?;
    registers.orig_rax = u64::MAX;
    ptrace::setregs(thread, registers)
}

/// What the call has returned that the thread is stopped behind.
pub(in crate::effects) fn result(thread: Pid) -> Result<i64> {
    Ok(ptrace::getregs(thread)?.rax.cast_signed())
}

/// Lets a call that was skipped return an error.
pub(in crate::effects) fn fail(thread: Pid, _call: &Call, errno: Errno) -> Result<()> {
    let mut registers = ptrace::getregs(thread)?;
    registers.rax = i64::from(-(errno as i32)).cast_unsigned();
    ptrace::setregs(thread, registers)
}

/// Where its stack ends.
pub(in crate::effects) fn stack(thread: Pid) -> Result<u64> {
    Ok(ptrace::getregs(thread)?.rsp)
}
