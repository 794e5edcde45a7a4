require_relative '../../bgdeploy/spec/spec_helper'
