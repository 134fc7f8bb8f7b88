# What the Vagrantfile needs besides describing machines: how to run them here, and how to reach
# them. Vagrant's own Ruby, with nothing to install.

require "fileutils"
require "json"
require "open3"

class VagrantLab
  OWN = "kea-ha-lab/debian-".freeze
  HOST_KEY = "/etc/ssh/ssh_host_ed25519_key.pub".freeze

  def initialize(project)
    @project = project
    @directory = File.join(project, ".lab")
    @one_at_a_time = Mutex.new
  end

  # The newest box of `make box` that is here; nil when there is none.
  def own_box
    home = ENV.fetch("VAGRANT_HOME") { File.expand_path("~/.vagrant.d") }
    found = Dir.glob(File.join(home, "boxes", OWN.sub("/", "-VAGRANTSLASH-") + "*")).max
    found && File.basename(found).sub("-VAGRANTSLASH-", "/")
  end

  # Whether `make box` made this one.
  def own?(box)
    box.start_with?(OWN)
  end

  # How libvirt is to run the machines: "kvm" where that is faster than emulation, else "qemu".
  def driver
    @driver ||= ENV.fetch("KEA_HA_DRIVER") { kvm? ? "kvm" : "qemu" }
  end

  # Before a machine comes up: not beside the quick lab of this clone, whose access files it would
  # overwrite. Says it when the machine will be emulated.
  def prepare(machine)
    refuse("the quick lab of this clone is up: end it first with `.venv/bin/python -m lab down`") if quick_lab?
    return unless machine.provider_name == :libvirt

    @one_at_a_time.synchronize { system("sh", libvirt, "start") } || refuse("libvirt does not run, as said above")
    return if driver == "kvm"

    machine.ui.warn("There is no hardware virtualization that works here: the machine is emulated, and slow.")
  end

  # Once a machine is up: how ssh and pyinfra reach it, and the key by which they know it.
  def write_access(machine)
    ssh = machine.ssh_info
    key = +""
    machine.communicate.execute("cat #{HOST_KEY}") { |_, data| key << data }
    where = ssh[:port] == 22 ? ssh[:host] : "[#{ssh[:host]}]:#{ssh[:port]}"
    change_access do
      FileUtils.mkdir_p(machines, mode: 0o700)
      File.write(File.join(machines, "#{machine.name}.known_hosts"), "#{where} #{key.split[0, 2].join(" ")}\n")
      File.write(File.join(machines, "#{machine.name}.ssh_config"), <<~ENTRY)
        Host #{machine.name}
            HostName #{ssh[:host]}
            Port #{ssh[:port]}
            User #{ssh[:username]}
            IdentityFile "#{ssh[:private_key_path].first}"
            IdentitiesOnly yes
            UserKnownHostsFile "#{@directory}/known_hosts"
            GlobalKnownHostsFile /dev/null
            StrictHostKeyChecking yes
            PasswordAuthentication no
      ENTRY
    end
  end

  # Once a machine is destroyed: nobody is told the way to it; with the last one all of it goes.
  def forget(machine)
    change_access do
      FileUtils.rm_f(Dir.glob(File.join(machines, "#{machine.name}.*")))
    end
    return unless Dir.glob(File.join(@project, ".vagrant/machines/*/*/id")).empty?

    FileUtils.rm_rf(machines)
    # At the end, when Vagrant has nothing more to ask of libvirt.
    at_exit { clear_libvirt } if machine.provider_name == :libvirt
  end

  private

  def refuse(sentence)
    raise Class.new(Vagrant::Errors::VagrantError) { error_message(sentence) }
  end

  # The record that lab/record.py keeps, unless this machine has booted since.
  def quick_lab?
    record = JSON.parse(File.read("/run/kea-ha-lab/lab.json"))
    boot = File.read("/proc/sys/kernel/random/boot_id").strip
    record["project"] == @project && record["boot"] == boot
  rescue SystemCallError, JSON::ParserError
    false
  end

  # Runs a guest of five bytes, which ends the emulator with status 33: `mov al, 16; out 0xf4, al;
  # hlt`. A KVM that is there and cannot run a guest, or does so slower than emulation (nested in a
  # machine that emulates it), takes longer than the second that it gets.
  def kvm?
    return false unless File.writable?("/dev/kvm")

    require "tempfile"
    Tempfile.create("kea-ha-lab") do |disk|
      disk.binmode
      disk.write("\xB0\x10\xE6\xF4\xF4".b.ljust(510, "\0") + "\x55\xAA".b)
      disk.flush
      system("timeout", "1", "qemu-system-x86_64", "-accel", "kvm", "-display", "none",
             "-nodefaults", "-no-user-config", "-device", "isa-debug-exit,iobase=0xf4",
             "-drive", "file=#{disk.path},format=raw,if=ide", out: File::NULL, err: File::NULL)
      $?.exitstatus == 33
    end
  end

  # What Vagrant leaves: its copy of our box, which would also outlive a newer one, and the daemons.
  def clear_libvirt
    pool = %w[virsh --quiet --connect qemu:///system]
    volumes, = Open3.capture2e(*pool, "vol-list", "default")
    volumes.scan(/^\s*(\S*#{OWN.sub("/", "-VAGRANTSLASH-")}\S*)/).flatten.each do |volume|
      system(*pool, "vol-delete", "--pool", "default", volume)
    end
    system("sh", libvirt, "stop")
  end

  def libvirt
    File.join(@project, "lab/libvirt.sh")
  end

  def machines
    File.join(@directory, "machines")
  end

  # Changes what is known of single machines, and makes the files that ssh and pyinfra read of it.
  # Machines come up side by side, in one Vagrant and in several.
  def change_access
    FileUtils.mkdir_p(@directory, mode: 0o700)
    @one_at_a_time.synchronize do
      File.open(__FILE__) do |lock|
        lock.flock(File::LOCK_EX)
        yield
        %w[known_hosts ssh_config].each do |kind|
          parts = Dir.glob(File.join(machines, "*.#{kind}")).sort.map { |file| File.read(file) }
          file = File.join(@directory, kind)
          if parts.empty?
            FileUtils.rm_f(file)
          else
            File.write("#{file}.new", parts.join)
            File.rename("#{file}.new", file)
          end
        end
      end
    end
  end
end
